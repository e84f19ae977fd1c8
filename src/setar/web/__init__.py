"""The studio, ``setar serve``: a page where people draw. Gradio is imported by `page` alone."""
