"""Views of an image: the deterministic one that is evaluated and served, and the weak and strong ones of training."""
