"""What stops a training run in a way that its user can mend."""


class TrainingError(Exception):
    """Too little data, an impossible promise, a model that learnt nothing. One line that says what to change."""
