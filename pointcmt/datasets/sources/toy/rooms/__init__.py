"""Toy rooms: furnished indoor scenes for semantic segmentation and detection.

Every room is determined by its number alone. Rooms vary in outline, structure and furnishing, and
classes resemble each other on purpose: stools look like small tables, club chairs like armchairs,
closed cabinets like columns and boxes, panels of the wall like pictures, niches like windows.

The modules, from the bottom up: `blocks` (footprints, collisions), `piece` (one object),
`materials`, `shell` and `structure`, `openings`, `furniture`, `cabinet`, `layout` (relations),
`decorating`, `arranging` and `clutter` (what is placed where), `path` (cameras), `room` (all);
`sensor` adds the noise of a depth camera to depth images.
"""
