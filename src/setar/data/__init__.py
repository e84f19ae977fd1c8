"""Images and codes to train on; two small data sets ship with the package."""
