"""What the tests of inference share."""

NAMES = ("background", "Katze", "犬")  # names need not be English
