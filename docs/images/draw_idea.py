"""Draws idea.svg, the README's picture: two layers on the time axis, regular and FarSkip. Lengths are an illustration.

    python3 docs/images/draw_idea.py && rsvg-convert docs/images/idea.svg -o idea.png
"""
from pathlib import Path

SCALE, LEFT, LANE = 2.55, 104, 34
COLOURS = {"attention": "#4c78a8", "gate": "#9aa5b1", "experts": "#e4873d", "shared": "#58a066", "network": "#8e6bbf"}


def text(x, y, words, size=13, colour="#1f2933", anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{words}</text>'


def block(start, length, y, kind, label):
    x, width = LEFT + start * SCALE, length * SCALE
    return (f'<rect x="{x:.1f}" y="{y}" width="{width - 1.5:.1f}" height="{LANE - 4}" rx="3" fill="{COLOURS[kind]}"/>'
            + text(x + width / 2 - 0.7, y + 19.5, label, 11.5 if width > 46 else 10, "#ffffff", "middle"))


def idle(start, length, y):
    x, width = LEFT + start * SCALE, length * SCALE
    return (f'<rect x="{x:.1f}" y="{y}" width="{width - 1.5:.1f}" height="{LANE - 4}" rx="3" fill="url(#idle)" '
            'stroke="#d64545" stroke-dasharray="3 2"/>'
            + text(x + width / 2, y + 19.5, "waits", 11, "#c03030", "middle"))


def lanes(y):
    return [text(LEFT - 12, y + 20, "compute", anchor="end"), text(LEFT - 12, y + LANE + 20, "network", anchor="end")]


def layer_mark(start, end, y, label):
    a, b = LEFT + start * SCALE, LEFT + end * SCALE - 2
    return (f'<path d="M{a:.1f} {y + 5} V{y} H{b:.1f} V{y + 5}" fill="none" stroke="#7b8794"/>'
            + text((a + b) / 2, y - 5, label, 12, "#52606d", "middle"))


def regular(y):
    parts = lanes(y)
    for layer, name in enumerate(("layer k", "layer k+1")):
        t = layer * 156
        parts += [layer_mark(t, t + 156, y - 8, name), block(t, 40, y, "attention", "attention"), block(t + 40, 6, y, "gate", "g"),
                  idle(t + 46, 28, y), block(t + 46, 28, y + LANE, "network", "dispatch"), block(t + 74, 40, y, "experts", "routed experts"),
                  idle(t + 114, 28, y), block(t + 114, 28, y + LANE, "network", "combine"), block(t + 142, 14, y, "shared", "shared")]
    return parts


def farskip(y):
    parts = lanes(y)
    for layer, name in enumerate(("layer k", "layer k+1")):
        t = layer * 100
        parts += [layer_mark(t, t + 100, y - 8, name), block(t, 12, y, "attention", "q k v"), block(t + 12, 6, y, "gate", "g"),
                  block(t + 18, 28, y, "attention", "attention"), block(t + 18, 28, y + LANE, "network", "dispatch"),
                  block(t + 46, 40, y, "experts", "routed experts"), block(t + 86, 14, y, "shared", "shared"),
                  block(t + 86, 26, y + LANE, "network", "combine")]
    parts.append(block(0, 12, y + LANE, "network", "..."))
    return parts


def main():
    parts = [text(20, 30, "Regular: each sub-block reads a sum that is still on its way, so compute waits twice a layer", 15, weight="bold"),
             *regular(64),
             text(20, 166, "FarSkip: each sub-block reads the residual stream without the term that is still on the wire", 15, weight="bold"),
             *farskip(200),
             text(LEFT, 290, "attention reads p = x without the routed experts of layer k-1;&#160; the gate g and the experts read x without "
                  "this layer's attention.", 12.5, "#3e4c59"),
             text(LEFT, 308, "Same weights, same shapes, same number of operations. Lengths are an illustration, not a measurement.", 12.5, "#3e4c59")]
    width, height = int(LEFT + 312 * SCALE + 22), 324
    (Path(__file__).parent / "idea.svg").write_text("\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img" aria-label="Two layers on a time axis: with regular '
        'connectivity compute waits for dispatch and combine; with FarSkip both run under compute">',
        '<defs><pattern id="idle" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="6" height="6" fill="#fdf0f0"/><rect width="1.5" height="6" fill="#f3c4c4"/></pattern></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>', *parts, "</svg>", ""]))


if __name__ == "__main__":
    main()
