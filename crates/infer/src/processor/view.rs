//! A view of an image, which knows where the image lies in it; and the batch of views a graph takes.

use super::{levels::Levels, planes::Planes};
use crate::{
    answer::Placement,
    error::{Error, Result},
    image::{Image, MAX_PIXELS},
    prepared::{Arrangement, Pixels, Prepared},
    resample::Filter,
};

/// An image, or a part of it, on its way to a graph.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) planes: Planes,
    /// For columns and rows, seen = image * scale + offset; none once it was turned.
    place: Option<([f64; 2], [f64; 2])>,
}

#[expect(clippy::cast_precision_loss, reason = "numbers of pixels")]
impl View {
    pub(super) fn of(image: &Image) -> Result<Self> {
        Ok(Self { planes: Planes::of(image)?, place: Some(([1.0; 2], [0.0; 2])) })
    }

    pub(super) fn width(&self) -> u32 {
        self.planes.width
    }

    pub(super) fn height(&self) -> u32 {
        self.planes.height
    }

    fn moved(&self, planes: Planes, left: i64, top: i64) -> Self {
        let place = self.place.map(|(scale, offset)| (scale, [offset[0] + left as f64, offset[1] + top as f64]));
        Self { planes, place }
    }

    pub(super) fn resize(&self, width: u64, height: u64, filter: Filter) -> Result<Self> {
        let planes = self.planes.resize(width, height, filter)?;
        let factor = [(planes.width, self.width()), (planes.height, self.height())]
            .map(|(to, from)| f64::from(to) / f64::from(from));
        let place = self.place.map(|(scale, offset)| {
            ([scale[0] * factor[0], scale[1] * factor[1]], [offset[0] * factor[0], offset[1] * factor[1]])
        });
        Ok(Self { planes, place })
    }

    pub(super) fn crop(&self, left: u32, top: u32, width: u32, height: u32) -> Self {
        let (left, top) = (i64::from(left), i64::from(top));
        self.moved(self.planes.crop(left, top, width, height), -left, -top)
    }

    pub(super) fn center_crop(&self, height: u32, width: u32) -> Self {
        let (planes, [left, top]) = self.planes.center_crop(height, width);
        self.moved(planes, -left, -top)
    }

    pub(super) fn pad(&self, left: u32, top: u32, width: u32, height: u32, colour: [u8; 3]) -> Self {
        self.moved(self.planes.pad(left, top, width, height, colour), left.into(), top.into())
    }

    pub(super) fn pad_to_square(&self, colour: [u8; 3]) -> Self {
        let (planes, [left, top]) = self.planes.pad_to_square(colour);
        self.moved(planes, left.into(), top.into())
    }

    /// Columns become rows; the image lies in it as before only after the same again.
    pub(super) fn transposed(&self) -> Self {
        let place = self.place.map(|([x, y], [left, top])| ([y, x], [top, left]));
        Self { planes: self.planes.transposed(), place }
    }

    /// Turned by 90 degrees clockwise.
    pub(super) fn turned(&self) -> Self {
        Self { planes: self.planes.turned(), place: None }
    }

    /// Rows and columns of tiles of `side` pixels, row by row; the last ones smaller where the side does not divide.
    pub(super) fn tiles(&self, side: u32) -> Vec<Self> {
        let begins = |length: u32| (0..length).step_by(side as usize).map(move |at| (at, side.min(length - at)));
        let row = |(top, height)| begins(self.width()).map(move |(left, width)| self.crop(left, top, width, height));
        begins(self.height()).flat_map(row).collect()
    }

    pub(super) fn placement(&self, image: usize) -> Option<Placement> {
        let (scale, offset) = self.place?;
        Some(Placement { image, scale, offset, width: self.width(), height: self.height() })
    }
}

/// Views of one size, their values one after the other.
pub(super) struct Batch<'a> {
    levels: &'a Levels,
    /// Width and height of every view.
    size: Option<(u32, u32)>,
    count: usize,
    values: Vec<f32>,
    placements: Vec<Placement>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(levels: &'a Levels) -> Self {
        Self { levels, size: None, count: 0, values: Vec::new(), placements: Vec::new() }
    }

    /// Appends a view of the image of that number.
    ///
    /// # Errors
    /// [`Error::Request`] when its size is not that of the views before it.
    pub(super) fn push(&mut self, view: &View, image: usize) -> Result<()> {
        self.make_room(view.width(), view.height())?;
        self.levels.write(&view.planes, &mut self.values);
        self.placements.extend(view.placement(image));
        Ok(())
    }

    /// Appends a view in the upper left corner of `width` x `height` zeros.
    pub(super) fn push_padded(&mut self, view: &View, image: usize, width: u32, height: u32) -> Result<()> {
        if view.width() > width || view.height() > height {
            return Err(Error::Request(format!(
                "image {}: {} x {} pixels do not fit into `pad_size` of {width} x {height}",
                image + 1,
                view.width(),
                view.height()
            )));
        }
        self.make_room(width, height)?;
        let mut values = Vec::new();
        self.levels.write(&view.planes, &mut values);
        for plane in values.chunks_exact(view.width() as usize * view.height() as usize) {
            let end = self.values.len() + width as usize * height as usize;
            for row in plane.chunks_exact(view.width() as usize) {
                self.values.extend_from_slice(row);
                self.values.resize(self.values.len() + (width - view.width()) as usize, 0.0);
            }
            self.values.resize(end, 0.0);
        }
        self.placements.extend(view.placement(image).map(|place| Placement { width, height, ..place }));
        Ok(())
    }

    /// Appends views that show nothing until there are `count`.
    pub(super) fn fill(&mut self, count: usize) -> Result<()> {
        if let Some((width, height)) = self.size {
            while self.count < count {
                self.make_room(width, height)?;
                let blank = self.levels.channels() * width as usize * height as usize;
                self.values.resize(self.values.len() + blank, 0.0);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, width: u32, height: u32) -> Result<()> {
        let (first_width, first_height) = *self.size.get_or_insert((width, height));
        if (first_width, first_height) != (width, height) {
            return Err(Error::Request(format!(
                "images: one becomes {first_width} x {first_height} pixels and another {width} x {height}, but a graph \
                 takes all in one size; ask about one at a time or set `size` of the image processor"
            )));
        }
        self.count += 1;
        let most = MAX_PIXELS * self.levels.channels() as u64;
        if (self.values.len() + self.levels.channels() * width as usize * height as usize) as u64 > most {
            return Err(Error::Request(format!(
                "images: together more than {MAX_PIXELS} pixels after preprocessing; ask about fewer at a time"
            )));
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Height and width of every view.
    pub(super) fn side(&self) -> [usize; 2] {
        self.size.map_or([0, 0], |(width, height)| [height as usize, width as usize])
    }

    /// `pixel_values` with `outer` dimensions before colours, rows and columns.
    pub(super) fn finish(self, outer: &[usize], images: Vec<Arrangement>) -> Prepared {
        let mut shape = outer.to_vec();
        shape.push(self.levels.channels());
        shape.extend(self.side());
        debug_assert_eq!(shape.iter().product::<usize>(), self.values.len());
        Prepared {
            pixel_values: Pixels { shape, values: self.values },
            pixel_attention_mask: None,
            image_grid_thw: None,
            image_sizes: None,
            images,
            placements: self.placements,
        }
    }
}
