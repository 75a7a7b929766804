"""Programs around jaxmix, run from a checkout as python -m train.<program>."""
