"""Programs that train and evaluate with jaxmix; run them from a checkout as python -m train.<program>."""
