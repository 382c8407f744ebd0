"""Procedural frontal chest radiographs whose truth is known.

A phantom is drawn in two steps. `plan(seed)` draws the anatomy and the findings as numbers in unit coordinates
(x to the image's right, y down, both 0..1); `render(plan, height, width)` draws those numbers at any size. The same
seed therefore gives the same truth at 256 x 256 (training) and at 512 x 576 (the DICOM samples).

Convention: the patient's right side is on the image's left. Zones are thirds of the lung's height between apex and
dome of the diaphragm. Findings keep clear of the borders between the classes (small and large, upper and mid), so that
the truth can be read from the pixels.

Nothing here is derived from a patient's image.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

LABELS = ["nodule", "consolidation", "pleural_effusion", "pneumothorax", "cardiomegaly", "endotracheal_tube",
          "central_line", "pacemaker"]
ZONES = ["upper", "mid", "lower"]
ZONE_T = {"upper": (0.13, 0.27), "mid": (0.41, 0.59), "lower": (0.73, 0.90)}
WEIGHTS = {"nodule": 3.0, "consolidation": 1.3, "pleural_effusion": 1.4, "pneumothorax": 1.2, "cardiomegaly": 1.0,
           "endotracheal_tube": 0.9, "central_line": 1.0, "pacemaker": 0.8}


@dataclass
class Finding:
    finding: str
    box: tuple[float, float, float, float]  # x0, y0, x1, y1 in unit coordinates
    side: str | None = None
    zone: str | None = None
    size: str | None = None
    shape: dict = field(default_factory=dict)  # what the renderer needs

    def sentence(self) -> str:
        cap = lambda s: s[0].upper() + s[1:]
        match self.finding:
            case "nodule":
                return f"{cap(self.size)} nodule in the {self.side} {self.zone} zone."
            case "consolidation":
                return f"Consolidation in the {self.side} {self.zone} zone."
            case "pleural_effusion":
                return f"{cap(self.size)} {self.side} pleural effusion."
            case "pneumothorax":
                return f"{cap(self.side)} pneumothorax."
            case "cardiomegaly":
                return "The heart is enlarged."
            case "endotracheal_tube":
                return "Endotracheal tube in place."
            case "central_line":
                return f"{cap(self.side)} central venous line in place."
            case "pacemaker":
                return f"{cap(self.side)} pacemaker in place."
        raise ValueError(self.finding)


def report(findings: list[Finding]) -> str:
    return " ".join(f.sentence() for f in findings) or "No abnormality."


class Anatomy:
    """The numbers of one thorax. `s` is +1 for the patient's left (image right), -1 for the right."""

    def __init__(self, rng: np.random.Generator):
        u = rng.uniform
        self.xc = 0.5 + u(-0.02, 0.02)
        self.apex = u(0.075, 0.115)
        self.wmax = u(0.34, 0.39)
        self.cin = u(0.12, 0.15)
        self.m0 = u(0.050, 0.068)
        dome = u(0.70, 0.78)
        self.dome = {-1: dome - u(0.005, 0.03), 1: dome + u(0.0, 0.015)}
        self.dome_k = u(1.3, 1.9)
        self.lat_p, self.lat_q = u(2.0, 2.6), u(0.52, 0.66)
        self.wall = u(0.04, 0.08)
        self.neck = u(0.13, 0.17)
        self.ribs = dict(pitch=u(0.068, 0.082), phase=u(0, 1), slope=u(0.25, 0.5), curve=u(0.6, 1.2), amp=u(0.05, 0.095),
                         ant=u(0.015, 0.045))
        self.tone = dict(body=u(0.56, 0.66), air=u(0.36, 0.46), abdomen=u(0.08, 0.16), med=u(0.05, 0.11),
                         spine=u(0.02, 0.06), heart=u(0.02, 0.08), clav=u(0.06, 0.11), trachea=u(0.05, 0.10))
        self.clav_y, self.clav_slope = u(0.10, 0.14), u(0.05, 0.18)
        self.hilum_y = {-1: u(0.40, 0.45), 1: u(0.38, 0.43)}
        self.vessel_amp = u(0.07, 0.14)
        self.knob = (u(0.045, 0.07), u(0.24, 0.28), u(0.028, 0.038))
        # heart: half-width follows the cardiothoracic ratio
        self.heart_share = u(0.28, 0.36)
        self.heart_tilt = u(0.15, 0.35)
        self.ctr = u(0.40, 0.49)
        self.heart_ry = u(0.150, 0.175)
        self.marker = rng.choice(["", "L", "R"], p=[0.4, 0.4, 0.2])
        self.marker_xy = (u(0.03, 0.08), u(0.03, 0.10))

    def height(self, s):
        return self.dome[s] - self.apex

    def y_of(self, s, t):
        return self.apex + t * self.height(s)

    def lateral(self, t):
        """Distance of the lung's outer edge from the midline at lung height t (0 apex, 1 dome)."""
        tt = np.clip(t, 0.0, 1.0)
        return self.cin + (self.wmax - self.cin) * (1 - (1 - tt) ** self.lat_p) ** self.lat_q

    def medial(self, t):
        return self.m0 + (self.cin - self.m0) * np.clip(1 - np.asarray(t) / 0.16, 0, 1) ** 2

    def diaphragm(self, s, dx):
        return self.dome[s] + self.dome_k * (dx - 0.17) ** 2

    def heart(self):
        w = self.ctr * 2 * self.wmax
        cy = 0.5 * (self.dome[-1] + self.dome[1]) - 0.07
        return w * self.heart_share, w * (1 - self.heart_share), cy, self.heart_ry

    def heart_edge(self, s, y):
        """How far the heart reaches from the midline on side s at height y."""
        right, left, cy, ry = self.heart()
        d = (y - cy) / ry
        if abs(d) >= 1:
            return 0.0
        half = (left if s > 0 else right) * np.sqrt(1 - d * d)
        return max(0.0, half + s * self.heart_tilt * (y - cy))

    def heart_box(self):
        right, left, cy, ry = self.heart()
        return (self.xc - right, cy - ry, self.xc + left, cy + 0.8 * ry)


SIDE = {-1: "right", 1: "left"}


@dataclass
class Plan:
    seed: int
    anatomy: Anatomy
    findings: list[Finding]
    vessels: list
    wires: list
    pixel: dict

    @property
    def report(self) -> str:
        return report(self.findings)


def plan(seed: int, want: list[dict] | None = None) -> Plan:
    """Draws a phantom with 0 to 4 findings. `want` fixes the findings, e.g. [{"finding": "nodule", "side": "left", "zone": "mid"}]."""
    rng = np.random.default_rng(seed)
    a = Anatomy(rng)
    if want is None:
        want = _draw_findings(rng)
    made: dict[str, list[Finding]] = {k: [] for k in LABELS}
    # large structures first, so that nodules and consolidations can keep clear of them
    for k in ["cardiomegaly", "pleural_effusion", "pneumothorax", "pacemaker", "endotracheal_tube", "central_line",
              "nodule", "consolidation"]:
        for w in want:
            if w["finding"] == k:
                f = _MAKE[k](rng, a, made, w)
                if f is not None:
                    made[k].append(f)
    made["pleural_effusion"].sort(key=lambda f: f.side)  # left before right
    findings = [f for k in LABELS for f in made[k]]
    vessels = _vessels(rng, a)
    wires = [w for f in findings for w in f.shape.get("wires", [])]
    u = rng.uniform
    pixel = dict(noise=u(0.006, 0.028), coarse=u(0.008, 0.025), blur=u(0.0, 0.7), gamma=u(0.85, 1.2), lo=u(-0.03, 0.06),
                 hi=u(0.90, 1.08), bias=(u(-0.05, 0.05), u(-0.05, 0.05)), edge=u(1.0, 2.2))
    return Plan(seed, a, findings, vessels, wires, pixel)


def _draw_findings(rng):
    if rng.random() < 0.12:
        return []
    n = rng.choice([1, 2, 3, 4], p=[0.38, 0.34, 0.20, 0.08])
    w = np.array([WEIGHTS[k] for k in LABELS])
    kinds = list(rng.choice(LABELS, size=n, replace=False, p=w / w.sum()))
    out = [{"finding": str(k)} for k in kinds]
    if "pleural_effusion" in kinds and n < 4 and rng.random() < 0.25:
        out.append({"finding": "pleural_effusion"})
    return out


def _side(rng, w):
    s = 1 if rng.random() < 0.5 else -1
    return {"left": 1, "right": -1}.get(w.get("side"), s)


def _clip_box(x0, y0, x1, y1):
    x0, x1 = min(x0, x1), max(x0, x1)
    return tuple(float(np.clip(v, 0, 1)) for v in (x0, y0, x1, y1))


def _make_cardiomegaly(rng, a, made, w):
    a.ctr = rng.uniform(0.59, 0.69)
    a.heart_ry = rng.uniform(0.185, 0.215)
    return Finding("cardiomegaly", _clip_box(*a.heart_box()))


def _make_effusion(rng, a, made, w):
    taken = [f.side for f in made["pleural_effusion"]]
    s = _side(rng, w)
    if SIDE[s] in taken:
        s = -s
    if SIDE[s] in taken:
        return None
    size = w.get("size") or str(rng.choice(["small", "moderate", "large"], p=[0.4, 0.35, 0.25]))
    if made["cardiomegaly"] and size == "large":
        size = "moderate"  # a large effusion would hide the heart's border
    if size == "large" and any(f.size == "large" for f in made["pleural_effusion"]):
        size = "small"
    h = a.height(s)
    if size == "small":
        level, men, p = a.dome[s] + rng.uniform(0.045, 0.06), rng.uniform(0.10, 0.13), 4.0
    elif size == "moderate":
        level, men, p = a.dome[s] - rng.uniform(0.13, 0.19) * h / 0.65, rng.uniform(0.04, 0.08), 3.0
    else:
        level, men, p = a.apex + rng.uniform(0.33, 0.48) * h, rng.uniform(0.03, 0.07), 3.0
    dx = np.linspace(a.m0, a.wmax, 200)
    top, bottom = level - men * (dx / a.wmax) ** p, a.diaphragm(s, dx)
    on = bottom - top > 0.008
    x0, x1 = dx[on].min(), dx[on].max()
    box = _clip_box(a.xc + s * x0, top[on].min(), a.xc + s * x1, bottom[on].max())
    return Finding("pleural_effusion", box, SIDE[s], None, size, dict(s=s, level=level, men=men, p=p))


def _fluid_top(a, f, dx):
    return f.shape["level"] - f.shape["men"] * np.clip(dx / a.wmax, 0, 1.1) ** f.shape["p"]


def _make_pneumothorax(rng, a, made, w):
    s = _side(rng, w)
    wet = [f.side for f in made["pleural_effusion"]]
    if SIDE[s] in wet and "side" not in w:
        s = -s
    if SIDE[s] in wet:
        return None
    drop, inset, reach = rng.uniform(0.045, 0.10), rng.uniform(0.045, 0.085), rng.uniform(0.6, 0.95)
    sh = dict(s=s, drop=drop, inset=inset, reach=reach)
    t = np.linspace(0.02, reach, 100)
    outer, inner = a.lateral(t), _collapsed(a, sh, t)
    on = outer - inner > 0.012
    box = _clip_box(a.xc + s * max(inner[on].min(), a.cin * 0.9), a.y_of(s, 0.0), a.xc + s * outer[on].max(),
                    a.y_of(s, t[on].max()))
    return Finding("pneumothorax", box, SIDE[s], None, None, sh)


def _collapsed(a, sh, t):
    """Outer edge of a lung that has come away from the chest wall."""
    h = a.height(sh["s"])
    t2 = np.clip((t * h - sh["drop"]) / (h - sh["drop"]), 0, 1)
    d = sh["inset"] * np.clip(1 - (t / sh["reach"]) ** 3, 0, 1)
    # above the collapsed apex there is no lung at all: the edge runs to the midline
    gone = np.clip(1 - (t * h - sh["drop"]) / 0.004, 0, 1)
    return (a.lateral(t2) - d) * (1 - gone)


def _make_pacemaker(rng, a, made, w):
    s = _side(rng, w) if "side" in w else (1 if rng.random() < 0.65 else -1)
    cx, cy = a.xc + s * rng.uniform(0.24, 0.30), rng.uniform(0.19, 0.25)
    rx, ry, ang = rng.uniform(0.045, 0.06), rng.uniform(0.036, 0.048), rng.uniform(-0.5, 0.5)
    box = _clip_box(cx - rx, cy - ry, cx + rx, cy + ry)
    right, left, hy, hr = a.heart()
    tip = (a.xc + rng.uniform(0.25, 0.6) * left, hy + rng.uniform(0.4, 0.65) * hr)
    pts = [(cx, cy - 0.8 * ry), (cx - s * 0.05, cy - 0.09), (a.xc + s * 0.08, a.clav_y + 0.03),
           (a.xc - 0.035, 0.24), (a.xc - 0.05, hy - 0.2 * hr), (a.xc - 0.01, hy + 0.45 * hr), tip]
    wires = [dict(pts=_spline(pts), width=0.0065, value=rng.uniform(0.28, 0.45))]
    return Finding("pacemaker", box, SIDE[s], None, None,
                   dict(s=s, can=(cx, cy, rx, ry, ang), can_value=rng.uniform(0.45, 0.7), wires=wires))


def _make_ett(rng, a, made, w):
    x, tip = a.xc + rng.uniform(-0.008, 0.008), rng.uniform(0.20, 0.265)
    bend = rng.uniform(-0.015, 0.015)
    pts = _spline([(x + bend, -0.02), (x + 0.5 * bend, 0.08), (x, 0.15), (x, tip)])
    wires = [dict(pts=pts, width=0.020, value=rng.uniform(0.09, 0.14)),
             dict(pts=[(p[0] + 0.007, p[1]) for p in pts], width=0.0065, value=rng.uniform(0.30, 0.45))]
    return Finding("endotracheal_tube", _clip_box(x - 0.025, 0.0, x + 0.025, tip + 0.005), None, None, None,
                   dict(wires=wires))


def _make_cvl(rng, a, made, w):
    s = _side(rng, w)
    tip = (a.xc - rng.uniform(0.035, 0.05), rng.uniform(0.33, 0.40))
    start = (a.xc + s * rng.uniform(0.22, 0.30), rng.uniform(0.15, 0.20))
    mid1 = (a.xc + s * rng.uniform(0.12, 0.16), a.clav_y + rng.uniform(0.005, 0.02))
    mid2 = (a.xc + (s * 0.055 if s < 0 else 0.02), rng.uniform(0.175, 0.20))
    pts = _spline([start, mid1, mid2, (tip[0], tip[1] - 0.09), tip])
    xs, ys = [p[0] for p in pts], [p[1] for p in pts]
    wires = [dict(pts=pts, width=0.0068, value=rng.uniform(0.26, 0.42))]
    return Finding("central_line", _clip_box(min(xs), min(ys), max(xs), max(ys)), SIDE[s], None, None,
                   dict(s=s, wires=wires))


def _spline(pts, n=12):
    """Catmull-Rom through the points."""
    p = np.array([pts[0]] + list(pts) + [pts[-1]], float)
    out = []
    for i in range(1, len(p) - 2):
        t = np.linspace(0, 1, n, endpoint=i == len(p) - 3)[:, None]
        p0, p1, p2, p3 = p[i - 1:i + 3]
        out.append(0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t ** 2
                          + (3 * p1 - p0 - 3 * p2 + p3) * t ** 3))
    return [tuple(q) for q in np.concatenate(out)]


def _place(rng, a, made, w, rx, ry):
    """A free place in an aerated lung for something of half-size rx, ry; None where there is none."""
    for _ in range(60):
        s, zone = _side(rng, w), w.get("zone") or str(rng.choice(ZONES))
        t = rng.uniform(*ZONE_T[zone])
        y = a.y_of(s, t)
        lat = a.lateral(t)
        for f in made["pneumothorax"]:
            if f.shape["s"] == s:
                lat = min(lat, _collapsed(a, f.shape, np.array([max(t - ry / a.height(s), 0.0), t])).min())
        med = max(float(a.medial(t)), a.heart_edge(s, y), a.heart_edge(s, y + 0.6 * ry)) + 0.01
        lo, hi = med + 0.75 * rx, lat - 0.85 * rx
        if hi <= lo:
            continue
        dx = rng.uniform(lo, hi)
        x = a.xc + s * dx
        if y + 0.9 * ry > float(a.diaphragm(s, dx)) - 0.012:
            continue
        if any(f.shape["s"] == s and y + ry + 0.012 > float(_fluid_top(a, f, dx)) for f in made["pleural_effusion"]):
            continue
        clash = False
        for f in made["pacemaker"] + made["nodule"] + made["consolidation"]:
            b = f.box
            clash |= (b[0] - rx - 0.015 < x < b[2] + rx + 0.015) and (b[1] - ry - 0.015 < y < b[3] + ry + 0.015)
        if not clash:
            return s, zone, x, y
    return None


def _make_nodule(rng, a, made, w):
    size = w.get("size") or str(rng.choice(["small", "large"], p=[0.55, 0.45]))
    r = rng.uniform(0.032, 0.042) if size == "small" else rng.uniform(0.056, 0.070)
    at = _place(rng, a, made, w, r, r)
    if at is None:
        return None
    s, zone, x, y = at
    sh = dict(s=s, x=x, y=y, r=r, value=rng.uniform(0.13, 0.22), soft=rng.uniform(0.12, 0.28),
              lobes=rng.uniform(0, 0.10), n=int(rng.integers(2, 6)), phase=rng.uniform(0, 6.28))
    return Finding("nodule", _clip_box(x - r, y - r, x + r, y + r), SIDE[s], zone, size, sh)


def _make_consolidation(rng, a, made, w):
    rx, ry = rng.uniform(0.075, 0.105), rng.uniform(0.062, 0.085)
    at = _place(rng, a, made, w, 0.8 * rx, 0.8 * ry)
    if at is None:
        return None
    s, zone, x, y = at
    return Finding("consolidation", _clip_box(x - rx, y - ry, x + rx, y + ry), SIDE[s], zone, None,
                   dict(s=s, x=x, y=y, rx=rx, ry=ry, value=rng.uniform(0.22, 0.34)))


_MAKE = {"nodule": _make_nodule, "consolidation": _make_consolidation, "pleural_effusion": _make_effusion,
         "pneumothorax": _make_pneumothorax, "cardiomegaly": _make_cardiomegaly, "endotracheal_tube": _make_ett,
         "central_line": _make_cvl, "pacemaker": _make_pacemaker}


def _vessels(rng, a):
    """Branches from both hila: (points, widths) in unit coordinates."""
    out = []
    for s in (-1, 1):
        hx, hy = a.xc + s * (a.m0 + 0.025), a.hilum_y[s]
        for ang in np.linspace(-1.25, 1.35, 11) + rng.uniform(-0.1, 0.1, 11):
            n, step = int(rng.integers(5, 8)), rng.uniform(0.03, 0.045)
            width = rng.uniform(0.009, 0.014)
            x, y, pts = hx, hy, [(hx, hy)]
            d = ang
            for k in range(n):
                d += rng.uniform(-0.28, 0.28)
                x, y = x + s * step * np.cos(d), y + step * np.sin(d)
                pts.append((x, y))
                if k in (1, 3) and rng.random() < 0.7:
                    bd, bx, by, bp = d + rng.choice([-1, 1]) * rng.uniform(0.4, 0.8), x, y, [(x, y)]
                    for _ in range(3):
                        bd += rng.uniform(-0.2, 0.2)
                        bx, by = bx + s * step * np.cos(bd), by + step * np.sin(bd)
                        bp.append((bx, by))
                    out.append((bp, width * 0.55))
            out.append((pts, width))
    return out


def _sig(x):
    return 1.0 / (1.0 + np.exp(-np.clip(x, -30, 30)))


def _noise(rng, h, w, cells):
    g = rng.standard_normal((max(2, round(cells * h / max(h, w))), cells)).astype(np.float32)
    return np.asarray(Image.fromarray(g).resize((w, h), Image.BICUBIC))


def render(p: Plan, height: int = 256, width: int = 256) -> np.ndarray:
    """The phantom as float32 in 0..1, bright where dense (MONOCHROME2)."""
    a, H, W = p.anatomy, height, width
    unit = max(H, W)
    px = 256.0 / unit
    rng = np.random.default_rng([1, p.seed])  # texture and noise; the truth does not depend on it
    x = ((np.arange(W, dtype=np.float32) + 0.5) / W)[None, :]
    y = ((np.arange(H, dtype=np.float32) + 0.5) / H)[:, None]
    dx = x - a.xc
    ax = np.abs(dx)
    soft = 0.0042
    sharp = 0.0030
    f32 = lambda v: np.asarray(v, np.float32)

    # lungs, one side at a time, on its half of the columns
    lung = np.zeros((H, W), np.float32)
    inner = np.zeros((H, W), np.float32)   # lung that is still there when there is a pneumothorax
    fluid = np.zeros((H, W), np.float32)
    below = np.zeros((H, W), np.float32)
    line = np.zeros((H, W), np.float32)
    split = int(round(a.xc * W))
    for s, cols in ((-1, slice(0, split)), (1, slice(split, W))):
        d = ax[:, cols]
        t = f32((y - a.apex) / a.height(s))
        lat, med = f32(a.lateral(t)), f32(a.medial(t))
        lat = np.where(t < 0, a.cin, lat)
        dia = f32(a.diaphragm(s, d))
        under = _sig((y - dia) / soft)
        m = _sig((lat - d) / soft) * _sig((d - med) / soft) * _sig((y - a.apex) / soft) * (1 - under)
        lung[:, cols] = m
        below[:, cols] = under
        inner[:, cols] = m
        for f in p.findings:
            if f.finding == "pneumothorax" and f.shape["s"] == s:
                e = _sig((f32(_collapsed(a, f.shape, t)) - d) / sharp)
                inner[:, cols] = m * e
                line[:, cols] = 4 * e * (1 - e) * m * (lat - f32(_collapsed(a, f.shape, t)) > 0.004)
            if f.finding == "pleural_effusion" and f.shape["s"] == s:
                fluid[:, cols] = m * _sig((y - f32(_fluid_top(a, f, d))) / (soft * p.pixel["edge"]))

    # heart and mediastinum
    right, left, cy, ry = a.heart()
    hx = dx + 0 * y - a.heart_tilt * (y - cy)
    half = np.where(hx < 0, f32(right), f32(left))
    heart = _sig((1 - np.sqrt((hx / half) ** 2 + ((y - cy) / ry) ** 2)) / (soft * 6))
    mw = f32(a.m0 * (0.80 + 0.35 * np.clip((y - 0.1) / 0.4, 0, 1)))
    med = _sig((mw - ax) / (soft * 1.5))
    kx, ky, kr = a.knob
    knob = _sig((kr - np.sqrt((dx - kx) ** 2 + (y - ky) ** 2)) / (soft * 1.5))
    dense = 1 - (1 - heart) * (1 - med) * (1 - knob)

    air = lung * (1 - dense) * (1 - fluid)
    gas = air * (1 - inner / np.maximum(lung, 1e-3))      # free air of a pneumothorax

    tone = a.tone
    wall = f32(np.where(y < 0.16, a.neck + (0.55 - a.neck) * np.clip((y + 0.02) / 0.16, 0, 1) ** 1.6, 0.55))
    chest = a.wmax + a.wall + 0.05 * np.clip((0.45 - y) / 0.3, 0, 1) + 0.02 * np.clip((y - 0.75) / 0.25, 0, 1)
    body = _sig((np.minimum(wall, f32(chest + 0.25 * np.clip((0.30 - y) / 0.12, 0, 1) ** 1.5)) - ax) / 0.008)
    img = tone["body"] * (1 - 0.25 * np.clip((ax - a.wmax) / 0.12, 0, 1))
    img = img + tone["abdomen"] * below * _sig((a.wmax + 0.02 - ax) / 0.01) + tone["med"] * med + tone["heart"] * heart
    vert = 0.5 + 0.5 * np.cos(2 * np.pi * y / 0.052)
    img = img + tone["spine"] * _sig((0.034 - ax) / soft) * (0.6 + 0.4 * vert)
    img = img - tone["trachea"] * _sig((0.017 - ax) / soft) * _sig((0.29 - y) / 0.02)
    img = img + tone["abdomen"] * 0.8 * fluid

    # ribs: posterior arcs, fainter anterior arcs, clavicles
    r = a.ribs
    inside = _sig((a.wmax + 0.012 - ax) / soft) * _sig((ax - 0.045) / 0.012) * (1 - below * 0.7)
    ph = (y - r["slope"] * ax + r["curve"] * ax * ax) / r["pitch"] + r["phase"]
    band = 0.5 + 0.5 * np.cos(2 * np.pi * ph)
    post = band * band * (3 - 2 * band)
    edge = np.clip(band * (1 - band) * 4, 0, 1) ** 4
    ant = 0.5 + 0.5 * np.cos(2 * np.pi * ((y + 0.75 * ax - 0.5 * ax * ax) / (r["pitch"] * 1.25) + r["phase"]))
    img = img + inside * (r["amp"] * (0.8 * post + 0.25 * edge) + r["ant"] * ant * ant * _sig((ax - 0.14) / 0.03))
    cyc = a.clav_y + a.clav_slope * (0.16 - ax) + 0.25 * (ax - 0.16) ** 2
    clav = np.exp(-((y - cyc) / 0.013) ** 2) * _sig((ax - 0.045) / 0.006) * _sig((0.42 - ax) / 0.01)
    img = img + tone["clav"] * clav
    img = img - tone["air"] * air - 0.075 * gas + 0.13 * line * (1 - dense)

    # opacities in the lung
    tex = _noise(rng, H, W, 24)
    for f in p.findings:
        sh = f.shape
        if f.finding == "nodule":
            g = 1.6
            xs = slice(max(0, int((sh["x"] - g * sh["r"]) * W)), int((sh["x"] + g * sh["r"]) * W) + 1)
            ys = slice(max(0, int((sh["y"] - g * sh["r"]) * H)), int((sh["y"] + g * sh["r"]) * H) + 1)
            ex, ey = x[:, xs] - sh["x"], y[ys] - sh["y"]
            rad = np.sqrt(ex * ex + ey * ey) / sh["r"]
            rad = rad * (1 + sh["lobes"] * np.cos(sh["n"] * np.arctan2(ey, ex) + sh["phase"]))
            img[ys, xs] += sh["value"] * _sig((1 - rad) / (0.35 * sh["soft"])) * (1 - 0.35 * np.minimum(rad, 1) ** 2)
        elif f.finding == "consolidation":
            rad = np.sqrt(((x - sh["x"]) / sh["rx"]) ** 2 + ((y - sh["y"]) / sh["ry"]) ** 2)
            m = _sig((1 - rad + 0.22 * tex) / 0.12) * np.clip(0.85 + 0.22 * _noise(rng, H, W, 56), 0.3, 1.2)
            img = img + sh["value"] * m * air

    # vessels and devices are drawn at twice the size and reduced
    cv = Image.new("L", (2 * W, 2 * H), 0)
    dr = ImageDraw.Draw(cv)
    for pts, wd in p.vessels:
        n = len(pts) - 1
        for k in range(n):
            q = [(pts[k][0] * 2 * W, pts[k][1] * 2 * H), (pts[k + 1][0] * 2 * W, pts[k + 1][1] * 2 * H)]
            dr.line(q, fill=int(250 - 150 * k / n), width=max(1, round(wd * (1 - 0.7 * k / n) * 2 * unit)))
    ves = np.asarray(cv.reduce(2).filter(ImageFilter.GaussianBlur(0.7 / px)), np.float32) / 255
    img = img + a.vessel_amp * ves * air * (1 - gas) * 1.2 * (inner / np.maximum(lung, 1e-3))
    if p.wires:
        for w in p.wires:
            cv = Image.new("L", (2 * W, 2 * H), 0)
            ImageDraw.Draw(cv).line([(q[0] * 2 * W, q[1] * 2 * H) for q in w["pts"]], fill=255,
                                    width=max(2, round(w["width"] * 2 * unit)), joint="curve")
            img = img + w["value"] * np.asarray(cv.reduce(2), np.float32) / 255
    for f in p.findings:
        if f.finding == "pacemaker":
            cx, cyy, rx, ryy, ang = f.shape["can"]
            ex, ey = x - cx, y - cyy
            c, sn = np.cos(ang), np.sin(ang)
            rad = (np.abs((ex * c + ey * sn) / rx) ** 3 + np.abs((-ex * sn + ey * c) / ryy) ** 3) ** (1 / 3)
            img = img + f.shape["can_value"] * _sig((1 - rad) / 0.06)

    q = p.pixel
    img = img + q["bias"][0] * dx + q["bias"][1] * (y - 0.5)
    img = img + q["coarse"] * (tex * 0.5 + 0.5 * _noise(rng, H, W, 70))
    img = img * body + 0.03 * (1 - body)
    if a.marker:
        mx, my = a.marker_xy
        mx = 1 - mx - 0.03 if a.marker == "L" else mx
        m = Image.new("L", (W, H), 0)
        md = ImageDraw.Draw(m)
        lw = max(2, round(0.008 * unit))
        P = lambda *c: [((mx + i * 0.025) * W, (my + j * 0.04) * H) for i, j in c]
        md.line(P((0, 0), (0, 1), (1, 1)) if a.marker == "L" else
                P((0, 1), (0, 0), (0.8, 0.1), (0.8, 0.5), (0, 0.55), (0.9, 1)), fill=255, width=lw)
        img = np.maximum(img, 0.95 * np.asarray(m, np.float32) / 255)
    if q["blur"] > 0.15:
        img = _blur(f32(img), q["blur"] / px)
    img = img + q["noise"] * rng.standard_normal((H, W), dtype=np.float32)
    img = np.clip((img - q["lo"]) / (q["hi"] - q["lo"]), 0, 1) ** q["gamma"]
    return img.astype(np.float32)


def _blur(img, sigma):
    n = max(1, int(np.ceil(2.5 * sigma)))
    k = np.exp(-0.5 * (np.arange(-n, n + 1) / sigma) ** 2).astype(np.float32)
    k /= k.sum()
    for axis in (0, 1):
        pad = [(n, n) if i == axis else (0, 0) for i in (0, 1)]
        e = np.pad(img, pad, mode="edge")
        L = img.shape[axis]
        img = sum(k[i] * (e[i:i + L] if axis == 0 else e[:, i:i + L]) for i in range(2 * n + 1))
    return img


if __name__ == "__main__":  # a contact sheet: phantom.py OUT.png [FIRST_SEED]
    import sys
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    sheet = Image.new("L", (4 * 264, 3 * 264), 255)
    for i in range(12):
        p = plan(first + i)
        im = Image.fromarray((render(p) * 255).astype(np.uint8))
        if len(sys.argv) > 3:
            for f in p.findings:
                ImageDraw.Draw(im).rectangle([v * 256 for v in f.box], outline=255)
        sheet.paste(im, (264 * (i % 4), 264 * (i // 4)))
        print(i, p.report)
    sheet.save(sys.argv[1])
