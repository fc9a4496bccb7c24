//! Against rdma-sys 0.3.0, whose types bindgen made from the installed header.

use railgauge_verbs_oracle::{Place, differences, front, our_front, ours, structs};

macro_rules! of_rdma_sys {
    ($($size:ident $name:ident { $($field:ident)* })*) => {
        fn theirs() -> Vec<Place> {
            let mut places: Vec<Place> = Vec::new();
            $(
                railgauge_verbs_oracle::size_if!($size places rdma_sys $name);
                $(places.push((
                    concat!(stringify!($name), ".", stringify!($field)).to_owned(),
                    std::mem::offset_of!(rdma_sys::$name, $field),
                ));)*
            )*
            places
        }
    };
}
structs!(of_rdma_sys);

macro_rules! front_of_rdma_sys {
    ($($field:ident)*) => {
        fn their_front() -> Vec<Place> {
            let end = std::mem::offset_of!(rdma_sys::verbs_context, context);
            vec![$((
                concat!("verbs_context.", stringify!($field)).to_owned(),
                end - std::mem::offset_of!(rdma_sys::verbs_context, $field),
            )),*]
        }
    };
}
front!(front_of_rdma_sys);

#[test]
fn every_size_and_offset_is_that_of_rdma_sys() {
    let different = differences(&ours(), &theirs());
    assert!(different.is_empty(), "{different:#?}");
    let different = differences(&our_front(), &their_front());
    assert!(different.is_empty(), "{different:#?}");
    assert!(ours().len() > 200, "{} places were compared", ours().len());
}
