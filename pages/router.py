"""The table of contents: one line per page, one section per folder."""

from pathlib import Path

import streamlit as st

from pages.components.teaching import frame

ICON = Path(__file__).parents[1] / "assets" / "icon.png"

st.set_page_config(page_title="Faces", page_icon=str(ICON), layout="wide")
st.logo(str(ICON), size="large")

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
    }
)
frame()
page.run()
