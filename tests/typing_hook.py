"""The type checker that tests run the package under: an int is as good as a float, as the language has it."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
