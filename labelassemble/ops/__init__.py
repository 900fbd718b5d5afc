"""One file an op: the maths in plain torch (`reference`), and the public function over the native op."""
