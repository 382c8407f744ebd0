pub(crate) type Vector = [f64; 3];

pub(crate) fn dot(a: Vector, b: Vector) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

pub(crate) fn cross(a: Vector, b: Vector) -> Vector {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

pub(crate) fn minus(a: Vector, b: Vector) -> Vector {
    [a[0] - b[0], a[1] - b[1], a[2] - b[2]]
}

pub(crate) fn length(a: Vector) -> f64 {
    dot(a, a).sqrt()
}

fn unit(a: Vector) -> Option<Vector> {
    let length = length(a);
    (length > 0.0 && length.is_finite()).then(|| a.map(|it| it / length))
}

/// Where a frame lies in the patient (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z to the head.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plane {
    /// The centre of the upper left pixel, in mm.
    pub position: [f64; 3],
    /// Where a row leads, from its first pixel to its last; of length 1.
    pub row: [f64; 3],
    /// Where a column leads, from its first pixel to its last; of length 1.
    pub column: [f64; 3],
}

/// Directions of which the standard says that they are of length 1 and at right angles; files round them.
const SLOPPINESS: f64 = 0.01;

impl Plane {
    /// From the values of Image Position (Patient) and Image Orientation (Patient); nothing when they are no plane.
    pub(crate) fn of(position: &[f64], orientation: &[f64]) -> Option<Self> {
        let (&[x, y, z], &[a, b, c, d, e, f]) = (position, orientation) else { return None };
        let (row, column) = (unit([a, b, c])?, unit([d, e, f])?);
        let whole = [x, y, z].iter().all(|it| it.is_finite());
        (whole && dot(row, column).abs() < SLOPPINESS).then_some(Self { position: [x, y, z], row, column })
    }

    /// The direction in which slices are counted: a row's, then a column's, then this are a right-handed system.
    pub fn normal(&self) -> [f64; 3] {
        let normal = cross(self.row, self.column);
        unit(normal).unwrap_or(normal)
    }

    /// Whether both lie in the same direction, within about half a degree.
    pub(crate) fn is_parallel(&self, other: &Self) -> bool {
        const COSINE: f64 = 1.0 - 5e-5;
        dot(self.row, other.row) > COSINE && dot(self.column, other.column) > COSINE
    }
}
