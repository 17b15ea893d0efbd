"""`python -m docs.generate`, in a checkout, renews everything that is made from the code."""

from docs.generate.pages import current

for path, text in current().items():
    path.write_text(text)
