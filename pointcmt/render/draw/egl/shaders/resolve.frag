// Average the light of a pixel's samples before encoding: means of encoded values would be too dark.
uniform sampler2DMS samples;

layout(location = 0) out vec4 rgb_out;

void main() {
    vec3 sum = vec3(0.0);
    for (int i = 0; i < SAMPLES; ++i) sum += texelFetch(samples, ivec2(gl_FragCoord.xy), i).rgb;
    rgb_out = vec4(encode(sum / float(SAMPLES)), 1.0);
}
