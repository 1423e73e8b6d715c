"""What happens when a person does something: a `Session` in, updates of the page out.

Every handler is a function whose first argument is the `Page`; ``events.py`` says which event calls it.
"""
