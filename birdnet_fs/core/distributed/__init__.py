"""Several processes that train one network: their group (`group`) and what they exchange (`exchange`)."""
