from ._plan import DeexternalizePlan, ExternalizePlan

__all__ = ["DeexternalizePlan", "ExternalizePlan"]
