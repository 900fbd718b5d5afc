"""The report: an evaluation as a page and in words, the model card, and the page that compares runs."""
