// SPDX-License-Identifier: Apache-2.0

use super::*;

#[tokio::test]
async fn a_view_that_nobody_was_woken_for_is_news_once() {
    let (sender, mut view) = watch::channel(Arc::new(View::default()));
    assert!(!latest(&mut view).1);
    sender.send_replace(Arc::new(View::default()));
    assert!(latest(&mut view).1);
    assert!(!latest(&mut view).1);
    sender.send_replace(Arc::new(View::default()));
    view.changed().await.unwrap();
    assert!(!latest(&mut view).1, "who waits for it has been told");
}
