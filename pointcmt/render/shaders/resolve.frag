// The mean light of a pixel's samples, encoded as sRGB: means of encoded values would be too dark.
uniform sampler2DMS samples;

layout(location = 0) out vec4 rgb_out;

void main() {
    vec3 sum = vec3(0.0);
    for (int i = 0; i < SAMPLES; ++i) sum += texelFetch(samples, ivec2(gl_FragCoord.xy), i).rgb;
    vec3 c = clamp(sum / float(SAMPLES), 0.0, 1.0);
    vec3 encoded = mix(1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, c * 12.92, lessThanEqual(c, vec3(0.0031308)));
    rgb_out = vec4(encoded, 1.0);
}
