"""The table of contents: one line per page, one section per folder."""

from pathlib import Path

import streamlit as st

from faces.seals import DamagedError
from pages.components.session import drawn
from pages.components.teaching import frame
from pages.components.who import inside
from trainer.rights import RefusedError
from trainer.telling import REFUSED, sentence

ICON = Path(__file__).parents[1] / "assets" / "icon.png"

st.set_page_config(
    page_title="Faces", page_icon=str(ICON), layout="wide",
    initial_sidebar_state="collapsed" if "large" in st.query_params else "auto",  # room for what is projected
)  # fmt: skip
st.logo(str(ICON), size="large")
if st.context.theme.type == "dark":  # the accent that reads on dark is too light for Streamlit's white upon it
    main = "[data-testid=stBaseButton-primary]:not(:disabled)"
    st.html(f"<style>{main} p, {main} span, [data-tag], [data-tag] * {{ color: #0e1117 }}</style>")

known = inside()
page = st.navigation(
    {
        "Explore": [
            st.Page(
                "explore/explore.py",
                title="Explore a head",
                icon=":material/explore:",
                url_path="explore",
                default=True,
            ),
            st.Page("explore/compare.py", title="Compare heads", icon=":material/compare:", url_path="compare"),
            st.Page(
                "explore/scoreboard.py",
                title="Which head is best",
                icon=":material/leaderboard:",
                url_path="scoreboard",
            ),
            st.Page("explore/tune.py", title="Tune s and m", icon=":material/grid_on:", url_path="tune"),
            st.Page("explore/which.py", title="Which Face should I use?", icon=":material/signpost:", url_path="which"),
        ],
        "Learn": [
            st.Page("learn/lessons.py", title="Lessons", icon=":material/school:", url_path="lessons"),
            st.Page("learn/lab.py", title="Margin lab", icon=":material/tune:", url_path="lab"),
            st.Page(
                "learn/circle.py",
                title="Circle and sphere",
                icon=":material/circle:",
                url_path="circle",
            ),
        ],
        "Manage": [
            st.Page("manage/runs.py", title="Runs", icon=":material/history:", url_path="runs"),
            st.Page("manage/data.py", title="Data", icon=":material/photo_library:", url_path="data"),
        ],
    },
    position="sidebar" if known else "hidden",
)
if known:
    frame()
    try:
        page.run()
    except RefusedError as refused:  # what no button could tell beforehand
        st.error(str(refused), icon=":material/lock:")
    except DamagedError as damaged:
        st.error(str(damaged), icon=":material/healing:")
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        st.error(sentence(error), icon=":material/hard_drive:")
drawn.set()
