"""How much each caller may ask for, decided in the worker and shared by those of its machine."""
