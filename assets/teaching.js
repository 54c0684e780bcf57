// The form that makes a teacher's link from the page as it is: which controls and which of the picture's own buttons
// stay, whether the others are locked instead of hidden, and large type. The link keeps all that the page has in its address.

const STYLE = `
.form { font: .875rem/1.5 var(--st-font, sans-serif); color: var(--st-text-color); padding: .9rem 1rem;
  border: 1px solid var(--st-border-color, #dfe4ea); border-radius: var(--st-base-radius, .5rem); }
b { font-weight: 600; }
fieldset { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; border: 0; margin: .4rem 0 .7rem; padding: 0; }
fieldset[hidden] { display: none; }
label { display: inline-flex; gap: .4rem; align-items: center; cursor: pointer; max-width: 22rem; }
label span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
input[type=checkbox] { accent-color: var(--st-primary-color); width: 1rem; height: 1rem; margin: 0; flex: none; }
.link { display: flex; flex-wrap: wrap; gap: .5rem; }
input[type=text] { flex: 1 1 16rem; min-width: 0; font: inherit; color: inherit; padding: .35rem .6rem; border-radius: inherit;
  background: var(--st-secondary-background-color); border: 1px solid var(--st-border-color, #dfe4ea); }
button { font: inherit; font-weight: 600; padding: .35rem .9rem; border: 0; border-radius: var(--st-base-radius, .5rem);
  background: var(--st-primary-color); color: var(--st-background-color, #fff); cursor: pointer; }
:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
@media (hover: none) { label { min-height: 2.4rem; } }
`;
const AGAIN = 700; // ms between two looks at which controls there are

// The page's controls by their keys, which Streamlit writes into classes; the mark of a key, not the key itself.
function controls(kinds) {
  const found = new Map();
  for (const box of document.querySelectorAll(".stMain .stElementContainer[class*='st-key-']")) {
    if (box.closest(".st-key-teaching") || !box.querySelector(kinds)) continue;
    const key = [...box.classList].find((one) => one.startsWith("st-key-")).slice("st-key-".length);
    const named = box.querySelector("label, [data-testid=stWidgetLabel]")?.textContent || box.textContent;
    const words = named.trim().split("\n")[0];
    found.set(key, words.length > 60 ? `${words.slice(0, 58)}…` : words || key);
  }
  return found;
}

// The picture's own buttons: the names of its parts that are there now.
function buttons() {
  const roots = [...document.querySelectorAll(".stMain [data-testid=stBidiComponentIsolated]")].map((host) => host.shadowRoot);
  const parts = roots.flatMap((root) => [...(root?.querySelectorAll("[part]") ?? [])]);
  return new Map(parts.filter((one) => one.checkVisibility()).map(({ part: { value } }) => [value, value[0].toUpperCase() + value.slice(1)]));
}

export default ({ parentElement, data: [{ kinds }] }) => {
  if (parentElement.querySelector(".form")) return;
  const stay = new Set(), gone = new Set(), form = document.createElement("div");
  form.className = "form";
  form.innerHTML = `<style>${STYLE}</style><b>Which controls stay?</b> Set the page as you want it, then copy the link.
    <fieldset class=controls><span hidden></span></fieldset><fieldset class=buttons><span>Of the picture:</span></fieldset><fieldset><label><input type=checkbox name=lock> Lock the others, do not hide them</label>
    <label><input type=checkbox name=large> Large type</label></fieldset>
    <div class=link><input type=text readonly aria-label="The link"><button type=button>Copy link</button></div>`;
  parentElement.append(form);
  const [list, bar, link, copy] = [".controls", ".buttons", "input[type=text]", "button"].map((one) => form.querySelector(one));
  const set = (name) => form.querySelector(`[name=${name}]`).checked;

  const tell = () => {
    const url = new URL(location.href);
    for (const name of ["teach", "hide", "lock", "large", "lesson"]) url.searchParams.delete(name);
    url.searchParams.set("teach", [...stay].join(","));
    if (gone.size) url.searchParams.set("hide", [...gone].join(","));
    for (const name of ["lock", "large"]) if (set(name)) url.searchParams.set(name, "1");
    if (link.value !== url.href) link.value = url.href;
  };
  // A box for each of them, new ones in their place. One that is there already is not touched: somebody may be pressing it.
  const fill = (place, found, checked, act) => {
    const boxes = new Map([...place.querySelectorAll("label")].map((label) => [label.control.value, label]));
    for (const [key, label] of boxes) if (!found.has(key)) label.remove();
    let last = place.firstElementChild;
    place.hidden = !found.size;
    for (const [key, words] of found) {
      let label = boxes.get(key);
      if (!label) {
        const box = document.createElement("input");
        label = document.createElement("label");
        Object.assign(box, { type: "checkbox", checked: checked(key), value: key });
        box.onchange = () => { act(key, box.checked); tell(); };
        label.append(box, document.createElement("span"));
        last.after(label);
      }
      const said = label.lastElementChild;
      if (said.textContent !== words) said.textContent = said.title = words;
      last = label;
    }
  };
  const look = () => {
    fill(list, controls(kinds), (key) => stay.has(key), (key, on) => stay[on ? "add" : "delete"](key));
    fill(bar, buttons(), (key) => !gone.has(key), (key, on) => gone[on ? "delete" : "add"](key));
    tell();
  };
  form.addEventListener("change", tell);
  copy.onclick = async () => {
    tell();
    link.select();
    try { await navigator.clipboard.writeText(link.value); } catch { document.execCommand("copy"); } // no HTTPS: no clipboard
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy link"; }, 1500);
  };
  look();
  const looking = setInterval(look, AGAIN);
  return () => setTimeout(() => { if (!form.isConnected) clearInterval(looking); });
};
