//! The vector instructions of the machine at hand, chosen when the program runs.

use pulp::{Arch, Simd, WithSimd};

/// Does work compiled for the vector instructions of this machine, as far as all of it is inlined.
///
/// The work is a structure's and not given as a closure to `dispatch`: called once, a closure is not inlined there.
pub(crate) fn vectorized<R>(work: impl Fn() -> R) -> R {
    struct Work<F>(F);
    impl<R, F: Fn() -> R> WithSimd for Work<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Work(work))
}
