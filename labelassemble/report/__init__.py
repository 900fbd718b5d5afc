"""The report: an evaluation as a page and as text, the model card, the page that compares runs."""
