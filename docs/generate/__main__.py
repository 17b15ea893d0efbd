"""`python -m docs.generate`, in a checkout, renews everything that is made from the code."""

from docs.generate.pages import current

for path, text in current().items():
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
