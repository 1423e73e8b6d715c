"""The page. With ``app.py`` the only importer of gradio."""
