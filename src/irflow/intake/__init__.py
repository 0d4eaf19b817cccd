"""Where alerts come from: one file per source, which verifies the raw bytes and then reads them."""
