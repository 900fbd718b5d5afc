"""Networks that answer every voxel, and their prediction of whole volumes."""
