"""GLB and .gltf files (glTF 2.0): `scene.read_glb` reads one."""
