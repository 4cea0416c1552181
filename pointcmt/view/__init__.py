"""A page on which to look at the correspondences of a store, in any browser and without a server.

`page/` holds the page's own HTML, CSS and JavaScript; the modules here put a store's data into it.
"""
