"""A preview: some rows as the model will see them in training, token by token.

``rows`` chooses rows and says of every token what training makes of it, ``tokens`` writes tokens so
that they can be read, ``show`` prints. No weight is loaded.
"""
