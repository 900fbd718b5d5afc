"""labelassemble: learn one model from datasets that label different things."""
