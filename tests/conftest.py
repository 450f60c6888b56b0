"""Every test runs strict: a dtype that nobody wrote is an error, as every warning is (see pyproject.toml)."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
