"""`cian app RUN`: a page on a run, to look, to correct, and to learn again. Needs the extra `app`.

`server` has the routes, `security` says which requests are answered, `project` is the run as the page sees it. The page
itself is in `static/`.
"""
