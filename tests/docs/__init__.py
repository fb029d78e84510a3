"""Every code block of the README and the guides is run; `tests.docs.blocks` says how a page is read."""
