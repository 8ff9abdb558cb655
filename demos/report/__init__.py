"""The model card as one self-contained HTML page."""
