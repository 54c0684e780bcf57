"""Pages, run without a browser: they open on an empty home, submit what is set, and say what is wrong."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from faces.heads import FAMILIES, HEADS
from pages.components.runs import NO_LOGITS, class_names
from trainer import RunConfig
from trainer.comparison import SEVEN
from trainer.snapshot import Snapshot
from trainer.store import Store

ROOT = Path(__file__).parents[1]
PAGES = sorted(file.relative_to(ROOT / "pages").as_posix() for file in (ROOT / "pages").glob("*/*.py"))
PAGES = [page for page in PAGES if not page.startswith("components")]


def opened(page: str = "explore/explore.py", **params: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "pages" / "router.py"), default_timeout=60)
    for name, value in params.items():
        app.query_params[name] = value
    app.run()
    return app if page == "explore/explore.py" else app.switch_page(str(ROOT / "pages" / page)).run()


def button(app: AppTest, label: str):
    return next(button for button in app.button if button.label == label)


@pytest.fixture
def store(faces_home) -> Store:
    return Store(faces_home)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_on_an_empty_home_and_asks_a_question(store, page):
    app = opened(page)
    assert not app.exception
    assert app.title[0].value.endswith("?")


def test_a_first_visit_finds_something_training(store):
    app = opened()
    (run,) = store.runs()
    assert run.config.dataset == "digits"
    assert app.query_params["run"] == run.id
    assert "has just begun" in app.info[0].value
    opened()
    assert len(store.runs()) == 1  # a second visitor looks at the same one


def test_train_submits_what_the_controls_say_and_shows_it(store):
    opened()
    app = opened()
    app.selectbox(key="head").select("CosFace").run()
    app.slider(key="CosFace.m").set_value(0.4).run()
    app.number_input(key="epochs").set_value(3).run()
    button(app, "Train").click().run()
    assert not app.exception
    run = store.runs()[0]
    assert (run.config.head, run.config.knobs["m"], run.config.epochs) == ("CosFace", 0.4, 3)
    assert run.config.knobs["s"] == pytest.approx(3.1073, abs=1e-3)
    assert app.query_params["run"] == run.id


def test_a_slider_turns_the_run_that_trains(store):
    name = store.submit(RunConfig(head="ArcFace", epochs=200))
    store.claim()
    app = opened(run=name)
    app.slider(key="ArcFace.m").set_value(0.45).run()
    assert not app.exception
    assert store.folder(name).wishes == {"m": 0.45}


def test_stop_stops_and_resume_resumes(store):
    name = store.submit(RunConfig())
    app = opened(run=name)
    button(app, "Stop").click().run()
    assert store.run(name).state == "stopped"
    button(app, "Resume").click().run()
    assert store.run(name).state == "queued"


def test_a_link_to_a_run_sets_the_controls_to_its_settings_unless_the_link_says_otherwise(store):
    name = store.submit(RunConfig(head="CosFace", knobs={"m": 0.37}, epochs=9, seed=4))
    app = opened(run=name)
    assert app.selectbox(key="head").value == "CosFace"
    assert app.slider(key="CosFace.m").value == 0.37
    assert app.number_input(key="seed").value == 4
    app = opened(run=name, epochs="12")
    assert app.number_input(key="epochs").value == 12


def test_a_link_whose_controls_are_at_their_defaults_opens_with_them(store):
    name = store.submit(RunConfig(head="CosFace", epochs=9))
    app = opened(run=name)
    assert "own" not in app.query_params
    app.selectbox(key="head").set_value("ArcFace").run()
    app.number_input(key="epochs").set_value(5).run()
    assert "own" in app.query_params
    app = opened(run=name, own="1")
    assert (app.selectbox(key="head").value, app.number_input(key="epochs").value) == ("ArcFace", 5)


def test_a_link_to_a_run_that_is_gone_says_so(store):
    app = opened(run="01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert not app.exception
    assert "no run" in app.warning[0].value


def test_the_default_s_is_shown_as_formula_and_number(store):
    app = opened()
    assert any(r"\ln 9=3.107" in caption.value for caption in app.caption)


def test_train_all_queues_the_seven_heads_on_equal_terms(store):
    app = opened("explore/compare.py")
    app.slider(key="seeds").set_value(2).run()
    button(app, "Train 7 heads × 2 seeds").click().run()
    assert not app.exception
    runs = [run for run in store.runs() if run.note]
    runs = [run for run in runs if run.note.startswith("7 heads × 2 seeds")]
    assert sorted((run.config.head, run.config.seed) for run in runs) == sorted(
        (head, seed) for head in SEVEN for seed in (0, 1)
    )
    assert len({run.note for run in runs}) == 1
    for name in ("dataset", "size", "encoder", "dim", "epochs", "batch", "lr", "weight_decay", "optimizer"):
        assert len({getattr(run.config, name) for run in runs}) == 1


def test_runs_on_unequal_terms_are_called_that(store):
    names = [store.submit(RunConfig(epochs=epochs)) for epochs in (2, 3)]
    app = opened("explore/compare.py", runs=",".join(names), source="Chosen runs")
    assert any("epochs" in warning.value and "not on equal terms" in warning.value for warning in app.warning)


def test_runs_can_be_stopped_resumed_and_deleted(store):
    name = store.submit(RunConfig(head="AdaCos"))
    app = opened("manage/runs.py")
    app.button(key=f"stop {name}").click().run()
    assert store.run(name).state == "stopped"
    app.button(key=f"resume {name}").click().run()
    assert store.run(name).state == "queued"
    app.button(key=f"stop {name}").click().run()
    app.button(key=f"delete {name}").click().run()
    assert not app.exception
    assert name not in [run.id for run in store.runs()]


def test_a_failed_run_says_why_on_its_card(store):
    name = store.submit(RunConfig())
    store.end(name, store.claim().attempt, "failed", "The loss is no finite number at step 3.")
    app = opened("manage/runs.py")
    assert any("no finite number" in error.value for error in app.error)


def test_a_run_keeps_its_class_names_when_its_dataset_is_gone(store):
    name = store.submit(RunConfig())
    store.folder(name).begin("", ["one", "two"])
    assert class_names(store, store.run(name)) == ("one", "two")


def test_a_run_whose_dataset_is_gone_is_still_listed(store):
    name = store.submit(RunConfig())
    from sqlalchemy import update

    from trainer.tables import runs

    with store.writing() as db:
        db.execute(update(runs).values(config=RunConfig().to_json().replace('"digits"', '"gone"')))
    for page in PAGES:
        assert not opened(page, run=name).exception


def test_the_data_page_queues_what_it_is_asked_for(store):
    app = opened("manage/data.py")
    button(app, "Download").click().run()
    assert store.jobs()[0]["arguments"] == ["fetch", "imagewoof", "--archive", "160 px"]
    app.text_input(key="own name").input("my cats").run()
    app.text_input(key="own path").input("/nowhere/cats.zip").run()
    app.button(key="import own").click().run()
    assert not app.exception
    assert store.jobs()[0]["arguments"] == ["import", "my cats", "/nowhere/cats.zip"]


def test_no_page_loads_torch_or_umap_into_the_web_process(faces_home):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("{ROOT}/pages/router.py", default_timeout=60).run()
for page in {PAGES!r}:
    assert not app.switch_page("{ROOT}/pages/" + page).run().exception
    if page == "learn/lab.py":
        assert app.get("bidi_component")
print(sorted({{"torch", "umap", "numba", "sklearn", "pytorch_metric_learning"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1:] == ["[]"]


def test_the_first_page_draws_its_picture_without_loading_what_tables_need(faces_home):
    code = f"""
import sys
from streamlit.testing.v1 import AppTest
app = AppTest.from_file("{ROOT}/pages/router.py", default_timeout=60).run()
assert app.get("bidi_component") and not app.exception
print(sorted({{"pandas", "pyarrow"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1:] == ["[]"]


def test_a_choice_turns_too_and_its_run_stays_readable(store):
    name = store.submit(RunConfig(head="ArcFace", epochs=200))
    store.claim()
    app = opened(run=name)
    app.selectbox(key="ArcFace.seam").select("clamp_pi").run()
    assert not app.exception
    assert store.folder(name).wishes == {"seam": "clamp_pi"}


def test_a_run_that_is_deleted_while_it_is_shown_is_said_to_be_gone(store):
    name = store.submit(RunConfig(head="ArcFace"))
    app = opened(run=name)
    store.stop(name)
    store.delete(name)
    app.slider(key="ArcFace.m").set_value(0.4).run()
    assert not app.exception
    assert any("no run" in warning.value for warning in app.warning)


def test_every_choice_on_compare_counts(store):
    names = [store.submit(RunConfig(seed=seed)) for seed in range(4)]
    app = opened("explore/compare.py", source="Chosen runs")
    for name in names:
        chosen = app.multiselect(key="chosen").value
        app.multiselect(key="chosen").set_value(list(dict.fromkeys([*chosen, name]))).run()
    assert set(app.multiselect(key="chosen").value) == set(names)
    assert set(app.query_params["runs"].split(",")) == set(names)


@pytest.mark.parametrize("link", ["a,a", "nothing", ""])
def test_an_odd_link_to_compare_breaks_nothing(store, link):
    name = store.submit(RunConfig())
    app = opened("explore/compare.py", runs=f"{name},{name},{link}", source="Chosen runs", group="gone")
    assert not app.exception
    assert app.multiselect(key="chosen").value == [name]


def test_a_head_without_class_logits_is_shown_without_dnn_accuracy_and_says_so(store):
    from trainer.training import train

    names = []
    for head in ("Triplet", "ArcFace"):
        names.append(store.submit(RunConfig(head=head, epochs=1, batch=256, dim=8, probe=100)))
        attempt = store.claim().attempt
        for snapshot in train(store.run(names[-1]).config):
            store.folder(names[-1]).keep(attempt, snapshot)
        store.index(names[-1], attempt)
        store.end(names[-1], attempt, "finished")
    app = opened(run=names[0])
    assert not app.exception
    assert any("Metric learning" in said.value and NO_LOGITS in said.value for said in app.markdown)
    shown = {metric.label: metric.value for metric in app.metric}
    assert shown["DNN accuracy"] == "none"
    assert all(shown[name].endswith("%") for name in ("KNN accuracy, k = 5", "Class-mean accuracy"))

    app = opened("explore/compare.py", runs=",".join(names), source="Chosen runs")
    assert not app.exception
    rows = app.dataframe[0].value.set_index("Head")
    assert rows.loc["Triplet", "DNN accuracy"] == "no class logits"
    assert rows.loc["ArcFace", "DNN accuracy"].endswith("%")
    assert rows["Class-mean accuracy"].str.endswith("%").all()

    app = opened("manage/runs.py")
    assert not app.exception
    assert ["no class logits" in text.value for text in app.markdown if "KNN" in text.value] == [False, True]


def test_the_menu_lists_heads_by_family_then_by_paper(store):
    offered = opened().selectbox(key="head").options
    families = [FAMILIES.index(HEADS.about(name).family) for name in offered]
    assert families == sorted(families)
    assert sorted(offered) == sorted(HEADS)
    assert offered[-6:] == [name for name in HEADS if HEADS.about(name).family == FAMILIES[-1]]


def test_a_picture_that_failed_is_said_and_not_asked_for_again_and_again(store):
    from trainer.training import train

    name = store.submit(RunConfig(epochs=1, batch=256, dim=8, probe=100))
    attempt = store.claim().attempt
    *_, last = train(store.run(name).config)
    store.folder(name).keep(attempt, last)
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    store.want(name, last.step, "umap-2")
    store.end_wanted(name, last.step, "umap-2", "UMAP failed: too few")
    app = opened(run=name, projection="UMAP")
    assert any("too few" in warning.value for warning in app.warning)
    assert not opened(run=name).exception  # its PCA, which nobody drew, is asked for, not drawn by the page
    assert store.folder(name).drawn("pca-2") == []
    assert store.waiting()["wanted"] == {"pca"}


def finished(store, *pictures: str, **config) -> tuple[str, Snapshot]:
    """A finished run with one snapshot and these pictures of it."""
    from trainer.pictures import draw
    from trainer.training import train

    name = store.submit(RunConfig(epochs=1, batch=256, dim=8, probe=100, **config))
    attempt = store.claim().attempt
    *_, last = train(store.run(name).config)
    store.folder(name).keep(attempt, last)
    store.index(name, attempt)
    store.end(name, attempt, "finished")
    for picture in pictures:
        draw(store.folder(name), last, picture)
    return name, last


def test_the_settings_of_a_picture_come_from_the_address_and_ask_for_it(store):
    name, last = finished(store, "pca-2")
    address = {"run": name, "projection": "t-SNE", "tsne.perplexity": "12", "tsne.seed": "3"}
    app = opened(**address)
    assert not app.exception
    assert app.slider(key="tsne.perplexity").value == 12
    assert store.next_wanted("tsne")["name"] == "tsne-2-perplexity=12-seed=3"
    app = opened(run=name, basis="the last moment")
    assert not app.exception
    assert store.next_wanted("pca")["name"] == f"pca-2-basis={last.step}"


def test_a_picture_that_is_refined_says_so_and_can_be_paused(store):
    name, last = finished(store, "pca-2")
    folder = store.folder(name)
    points = folder.points("pca-2", last.step)._replace(refining=np.float32([85, 500, 1.5]))
    folder.keep_points("tsne-2", last.step, points)
    app = opened(run=name, projection="t-SNE")
    assert not app.exception
    (pause,) = [button for button in app.button if "Pause" in button.label]
    pause.click().run(timeout=30)
    assert folder.pause_file("tsne-2").exists()
    (again,) = [button for button in app.button if button.label == "Refine"]
    again.click().run(timeout=30)
    assert not folder.pause_file("tsne-2").exists()
    assert not store.waiting()["wanted"]  # it has just been written: somebody works on it
    old = time.time() - 100
    os.utime(folder.points_file("tsne-2", last.step), (old, old))
    opened(run=name, projection="t-SNE")
    assert store.waiting()["wanted"] == {"tsne"}


@pytest.mark.parametrize(("moving", "drawn"), [(True, 2), (False, 1)])
def test_what_moved_and_came_to_rest_draws_the_page_once_more(moving, drawn):
    def page(moving: bool) -> None:
        import streamlit as st

        from pages.components.live import live

        st.session_state["drawn"] = st.session_state.get("drawn", 0) + 1
        live(lambda: True, moving and st.session_state["drawn"] == 1)

    app = AppTest.from_function(page, args=(moving,)).run()
    assert app.session_state["drawn"] == drawn
    assert not app.exception


def test_a_part_that_is_not_there_any_more_does_not_draw_the_page_again_and_again():
    def page() -> None:
        import streamlit as st

        from pages.components.live import live
        from pages.components.runs import forgiving

        st.session_state["drawn"] = st.session_state.get("drawn", 0) + 1
        live(forgiving(lambda: int("gone")), True)

    app = AppTest.from_function(page).run()
    assert app.session_state["drawn"] == 1
    assert "gone" in app.warning[0].value
