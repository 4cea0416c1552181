"""Networks of 3D object detection."""
