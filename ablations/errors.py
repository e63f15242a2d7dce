"""The one kind of error that a person can mend."""


class AblateError(ValueError):
    """A person's input or store cannot be used; the message is a sentence that says what to do instead.

    Any other exception is a fault of the suite's own, or of what it stands on: its traceback is kept in a file.
    """
