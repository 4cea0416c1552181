// One corner of a face, in one view. Camera axes are OpenCV's, so row 0 of the image is at the
// bottom of the target and comes first when it is read back.
layout(location = 0) in vec3 position;
layout(location = 1) in vec3 vertex_color;
layout(location = 2) in vec2 corner_uv;
#ifdef SMOOTH
layout(location = 3) in vec3 corner_normal;
centroid out vec3 smooth_normal;
#endif

uniform mat4 clip;

centroid out vec3 color;
centroid out vec2 uv;

void main() {
    gl_Position = clip * vec4(position, 1.0);
    color = vertex_color;
    uv = corner_uv;
#ifdef SMOOTH
    smooth_normal = corner_normal;
#endif
}
