"""One module per failure mode: pictures or features in, one number per picture or per set out."""
