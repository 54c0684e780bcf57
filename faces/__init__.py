"""Faces: margin-based heads, the encoders they train, and ways to look at what they learned.

The library half of the app: it knows neither Streamlit nor the trainer. Importing it is cheap;
torch is loaded only by the parts that compute with it (heads, encoders, model).
"""
