"""What a picture must be like to be answered: learned from the training pictures (learn.py), limited on the validation
pictures (fit.py).

docs/decisions/008-declining.md has the reasons and what was compared.
"""
