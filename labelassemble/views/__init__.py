"""Views of an image: the deterministic one that is served, and the weak and strong ones of training."""
