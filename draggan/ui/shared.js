// What several components of the page ask of the canvas; in the head of the page, so that it is there before them.
window.dragganCanvas = {
  // A drag runs.
  busy: () => Boolean(document.querySelector('.dg-stage.dg-busy')),
  // A frame of the film is shown in place of the picture of now.
  isLookedBack: () => Boolean(document.querySelector('.dg-stage')?.dataset.peek),
  // What it shows, as a JPEG data URL, with so many pixels on its longer side.
  thumbnail(most, quality) {
    const picture = document.querySelector('.dg-picture'), small = document.createElement('canvas');
    const far = Math.min(1, most / Math.max(picture.width, picture.height));
    [small.width, small.height] = [picture.width, picture.height].map((n) => Math.max(1, Math.round(n * far)));
    small.getContext('2d').drawImage(picture, 0, 0, small.width, small.height);
    return small.toDataURL('image/jpeg', quality);
  },
};
