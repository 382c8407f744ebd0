//! From attention over a sequence of image features to a map over the image.

use crate::{
    answer::Attention,
    bundle::Bundle,
    error::{Error, Result},
    manifest::AttentionManifest,
};

/// The decoder layer whose attention is read; none when the graph returns no attention.
///
/// # Errors
/// [`Error::Bundle`] when the manifest asks for what the graph does not return.
pub(crate) fn layer(bundle: &Bundle, layers: usize) -> Result<Option<usize>> {
    let manifest = &bundle.manifest.attention;
    let asked = manifest.layer.is_some() || manifest.source.is_some();
    match manifest.layer.or(layers.checked_sub(1)) {
        Some(layer) if layer < layers => Ok(Some(layer)),
        None if !asked => Ok(None),
        _ => Err(Error::bundle(
            bundle.folder.join("model.toml"),
            format!(
                "[attention] asks for cross_attentions of layer {}, but the decoder returns {layers} layers of it; \
                 correct the key or export the decoder with its cross_attentions.N outputs",
                manifest.layer.map_or("any".to_owned(), |layer| layer.to_string())
            ),
        )),
    }
}

/// Lays rows of attention out as a grid; none when the length of the sequence does not tell the grid.
///
/// # Errors
/// [`Error::Bundle`] when the manifest's grid does not have the encoder's length.
pub(crate) fn map(manifest: &AttentionManifest, layer: usize, rows: Vec<Vec<f32>>) -> Result<Option<Attention>> {
    let Some(length) = rows.first().map(Vec::len) else { return Ok(None) };
    let Some((grid, skip)) = grid(manifest.grid, length)? else { return Ok(None) };
    let per_token = rows.into_iter().map(|mut row| row.split_off(skip)).collect();
    Ok(Some(Attention { rows: grid[0], cols: grid[1], layer, per_token }))
}

/// Rows and columns, and how many leading features are not part of the image (a class token).
fn grid(stated: Option<[usize; 2]>, length: usize) -> Result<Option<([usize; 2], usize)>> {
    if let Some([rows, cols]) = stated {
        let cells = rows.saturating_mul(cols);
        return match length.checked_sub(cells) {
            Some(skip @ (0 | 1)) if cells > 0 => Ok(Some(([rows, cols], skip))),
            _ => Err(Error::bundle(
                "model.toml",
                format!("[attention] grid is {rows} x {cols}, but the encoder returns {length} features; correct it"),
            )),
        };
    }
    let square = |cells: usize| Some(cells.isqrt()).filter(|side| *side > 0 && side * side == cells);
    Ok(match (square(length), square(length.saturating_sub(1))) {
        (Some(side), _) => Some(([side, side], 0)),
        (None, Some(side)) => Some(([side, side], 1)),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_grid() {
        let check = |stated, length, expected| assert_eq!(grid(stated, length).expect("fits"), expected);
        check(None, 256, Some(([16, 16], 0)));
        check(None, 17, Some(([4, 4], 1)));
        check(None, 12, None);
        check(None, 0, None);
        check(Some([3, 4]), 12, Some(([3, 4], 0)));
        check(Some([3, 4]), 13, Some(([3, 4], 1)));
        assert!(grid(Some([3, 4]), 14).is_err());
        assert!(grid(Some([0, 4]), 1).is_err());
    }

    #[test]
    fn a_class_token_is_dropped() {
        let manifest = AttentionManifest::default();
        let attention = map(&manifest, 2, vec![vec![0.9, 0.1, 0.2, 0.3, 0.4]]).expect("fits").expect("a grid");
        assert_eq!(attention.per_token, [[0.1, 0.2, 0.3, 0.4]]);
        assert_eq!((attention.rows, attention.cols, attention.layer), (2, 2, 2));
        assert_eq!(map(&manifest, 0, vec![]).expect("nothing"), None);
    }
}
