// Color and face of a surface, by the formulas of srgb.glsl and shading.py (constants are #defined).
centroid in vec3 color;
centroid in vec2 uv;
#ifdef SMOOTH
centroid in vec3 smooth_normal;  // not of unit length; 0 for the face's
#endif

uniform vec3 origin;         // the camera's center
uniform vec3 key;            // unit vector to the key light
uniform vec3 axis;           // of the light from both sides; 0 = a headlight instead
uniform float focal;         // pixels
uniform mat3 pixel_to_ray;   // (column, row, 1) to a direction with a z depth of 1
uniform float first_row;     // of this view in the target
uniform bool cull;           // leave out faces that are turned away
uniform bool vertex_colors;  // else the face's color
uniform samplerBuffer face_normal;   // xyz unit, w: the plane's distance from the world's origin
uniform samplerBuffer face_color;    // linear rgb, texels per world unit
uniform isamplerBuffer face_index;   // the face's index in the mesh, its texture or -1
uniform sampler2D texels;            // all textures' levels in rows, sRGB decoded by the sampler
uniform isamplerBuffer levels;       // offset in texels, height, width, how the texture is used

#ifdef COLOR_ONLY
layout(location = 0) out vec4 light_out;  // linear
#else
layout(location = 0) out vec4 rgb_out;
layout(location = 1) out int face_out;
layout(location = 2) out vec4 albedo_out;
layout(location = 3) out vec4 normal_out;
uniform mat3 world_to_camera;
#endif

vec3 texel(int offset) {
    int width = textureSize(texels, 0).x;
    return texelFetch(texels, ivec2(offset % width, offset / width), 0).rgb;
}

// A texture coordinate in 0..1: repeated, clamped or mirrored.
float wrapped(float value, int mode) {
    if (mode == CLAMP) return clamp(value, 0.0, 1.0);
    if (mode == MIRROR) return 1.0 - abs(value - 2.0 * floor(value / 2.0) - 1.0);
    return value - floor(value);
}

// The texel at an index from -1 to count: repeated, or that of the border.
int neighbor(int index, int count, int mode) {
    return mode == REPEAT ? (index + count) % count : clamp(index, 0, count - 1);
}

vec3 bilinear(ivec4 level) {
    int sideways = level.w % 3, upward = level.w / 3 % 3;
    float x = wrapped(uv.x, sideways) * float(level.z) - 0.5;
    float y = (1.0 - wrapped(uv.y, upward)) * float(level.y) - 0.5;
    int left = int(floor(x)), top = int(floor(y));
    float across = x - float(left), down = y - float(top);
    int x0 = neighbor(left, level.z, sideways), x1 = neighbor(left + 1, level.z, sideways);
    int y0 = neighbor(top, level.y, upward), y1 = neighbor(top + 1, level.y, upward);
    vec3 above = mix(texel(level.x + y0 * level.z + x0), texel(level.x + y0 * level.z + x1), across);
    vec3 below = mix(texel(level.x + y1 * level.z + x0), texel(level.x + y1 * level.z + x1), across);
    return mix(above, below, down);
}

vec3 texture_color(int image, float texels_per_pixel) {
    float detail = log2(max(texels_per_pixel, 1.0));
    vec3 sum = vec3(0.0);
    for (int step = 0; step < 2; ++step) {
        int level = int(detail) + step;
        float share = step == 1 ? fract(detail) : 1.0 - fract(detail);
        ivec4 entry = ivec4(0);
        for (level = min(level, MIP_LEVELS - 1); level >= 0; --level) {
            entry = texelFetch(levels, image * MIP_LEVELS + level);
            if (entry.z > 0) break;  // use the smallest existing level for missing ones
        }
        sum += share * bilinear(entry);
    }
    return sum;
}

void main() {
    vec4 plane = texelFetch(face_normal, gl_PrimitiveID);
    vec3 normal = plane.xyz;
    vec4 own = texelFetch(face_color, gl_PrimitiveID);
    ivec2 index = texelFetch(face_index, gl_PrimitiveID).xy;

    vec3 albedo = vertex_colors ? color : own.rgb;
    if (index.y >= 0) {
        bool tinted = texelFetch(levels, index.y * MIP_LEVELS).w >= TINTED;
        vec3 image = texture_color(index.y, own.a / (gl_FragCoord.w * focal));
        albedo = tinted ? image * albedo : image;
    }

    vec3 ray = pixel_to_ray * vec3(gl_FragCoord.x, gl_FragCoord.y - first_row, 1.0);
    float facing = dot(normal, ray);

    // Surfaces often coincide. The driver snaps corners to a grid of 1/256 pixel, which may change
    // which of them is in front: compare the depths of their planes instead.
    gl_FragDepth = gl_FragCoord.z;
    if (cull && facing > 0.0) discard;
    float away = plane.w - dot(normal, origin);
    if (abs(facing) > EDGE_ON * length(ray)) gl_FragDepth = NEAR * facing / away;
    else if (abs(away) <= FLAT) discard;  // seen edge-on: no area in the image
    if (facing > 0.0) gl_FragDepth *= BEHIND;  // of coincident faces, show the one turned here
    float toward = facing > 0.0 ? -dot(normal, key) : dot(normal, key);
    bool fixed_light = axis != vec3(0.0);
    float ahead = fixed_light ? abs(dot(normal, axis)) : abs(facing) / length(ray);
#ifdef SMOOTH
    if (dot(smooth_normal, smooth_normal) > SHORT_NORMAL) {
        vec3 turned = normalize(facing > 0.0 ? -smooth_normal : smooth_normal);
        // Near outlines the normal may point away.
        ahead = fixed_light ? abs(dot(turned, axis)) : max(-dot(turned, ray), 0.0) / length(ray);
        toward = dot(turned, key);
    }
#endif
    vec3 reflected = mix(vec3(LEAST_REFLECTED), vec3(1.0), albedo);
    float light = AMBIENT + HEADLIGHT * ahead + KEY * max(toward, 0.0);

#ifdef COLOR_ONLY
    light_out = vec4(reflected * light, 1.0);
#else
    vec3 shown = world_to_camera * (facing > 0.0 ? -normal : normal);
    rgb_out = vec4(encode(reflected * light), 1.0);
    face_out = index.x;
    albedo_out = vec4(encode(albedo), 1.0);
    normal_out = vec4((128.0 + 127.0 * shown) / 255.0, 1.0);
#endif
}
