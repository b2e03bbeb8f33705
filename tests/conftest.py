"""Settings that all tests share."""

import os

from hypothesis import HealthCheck, settings

# No verdict may depend on how busy the machine is, and CI must find the same cases twice.
settings.register_profile(
    "book",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("book")
