"""Property tests here have no deadline: a busy machine is no defect."""

from hypothesis import settings

settings.register_profile("content", deadline=None)
settings.load_profile("content")
