// Zoom, search, titles and labels of the factor map, whose points matplotlib has drawn.
const svg = element.querySelector(".map svg");
const said = element.querySelector("[data-said]");
if (svg) {
  // A phone is higher than wide, and so is its map: the directions have no common scale.
  const stretch = matchMedia("(max-width: 500px)").matches ? 1.5 : 1;
  const { x, y, width, height } = svg.viewBox.baseVal;
  const whole = { x, y, width, height: height * stretch };
  for (const use of svg.querySelectorAll("use")) use.setAttribute("y", use.getAttribute("y") * stretch);
  svg.querySelectorAll("text").forEach((text) => text.remove()); // labels for paper: here, zooming makes room for more
  const MOST = 12; // times
  const LABEL = 12; // pixels
  const MOST_LABELS = 40;
  const view = { ...whole };
  const points = [...svg.querySelectorAll("g")]
    .map((group) => ({ group, title: group.querySelector(":scope > title")?.textContent, use: group.querySelector("use") }))
    .filter((point) => point.title && point.use)
    .reverse(); // the most rated, which are drawn last, come first
  const fold = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
  const within = (value, low, high) => Math.min(Math.max(value, low), high);

  const labels = svg.appendChild(document.createElementNS(svg.namespaceURI, "g"));
  labels.setAttribute("aria-hidden", "true"); // the points have titles
  const ruler = document.createElement("canvas").getContext("2d");

  // The titles of found points, then of the most rated, beside their points where they cover no other label.
  const drawLabels = () => {
    const box = svg.getBoundingClientRect();
    const unit = view.width / box.width; // of the drawing, in a pixel
    const longest = box.width < 430 ? 22 : 34;
    ruler.font = `${LABEL}px ${getComputedStyle(svg).fontFamily}`;
    labels.style.fontSize = `${LABEL * unit}px`;
    labels.style.strokeWidth = `${3 * unit}px`;
    labels.replaceChildren();
    const taken = [];
    const isHit = (point) => point.group.classList.contains("hit");
    const isSearched = svg.classList.contains("dimmed");
    for (const point of box.width ? [...points.filter(isHit), ...points.filter((one) => !isHit(one))] : []) {
      if (taken.length === MOST_LABELS) break;
      const [x, y] = [(centre(point).x - view.x) / unit, (centre(point).y - view.y) / unit];
      if (x < 0 || x > box.width || y < LABEL || y > box.height - LABEL) continue;
      const title = point.title.replace(/: [^:]*$/, ""); // without the number of ratings
      const text = title.length > longest ? `${title.slice(0, longest - 1)}…` : title;
      const width = ruler.measureText(text).width;
      const gap = isHit(point) ? 14 : 8; // a found point is larger
      for (const left of [x + gap, x - gap - width]) {
        const place = { left: left - 3, right: left + width + 3, top: y - LABEL, bottom: y + LABEL };
        const covers = (other) =>
          place.left < other.right && other.left < place.right && place.top < other.bottom && other.top < place.bottom;
        if (place.left < 0 || place.right > box.width || taken.some(covers)) continue;
        taken.push(place);
        const label = labels.appendChild(document.createElementNS(svg.namespaceURI, "text"));
        label.textContent = text;
        if (isSearched && !isHit(point)) label.setAttribute("opacity", "0.5");
        label.setAttribute("x", view.x + left * unit);
        label.setAttribute("y", view.y + (y + LABEL / 3) * unit);
        break;
      }
    }
  };

  // Points grow less than the distances between them.
  const drawPoints = () => {
    const grow = Math.sqrt(view.width / whole.width);
    const narrow = svg.getBoundingClientRect().width < 430 ? 1.8 : 1;
    for (const { group, use } of points) {
      const [x, y] = [use.getAttribute("x"), use.getAttribute("y")];
      const size = grow * narrow * (group.classList.contains("hit") ? 2.2 : 1);
      use.setAttribute("transform", `translate(${x} ${y}) scale(${size}) translate(${-x} ${-y})`);
    }
    drawLabels();
  };
  const show = () => {
    view.width = within(view.width, whole.width / MOST, whole.width);
    view.height = (view.width * whole.height) / whole.width;
    view.x = within(view.x, whole.x, whole.x + whole.width - view.width);
    view.y = within(view.y, whole.y, whole.y + whole.height - view.height);
    svg.setAttribute("viewBox", [view.x, view.y, view.width, view.height].join(" "));
    svg.classList.toggle("zoomed", view.width < whole.width);
    drawPoints();
  };
  const place = (event) => {
    const box = svg.getBoundingClientRect();
    return {
      x: view.x + ((event.clientX - box.left) / box.width) * view.width,
      y: view.y + ((event.clientY - box.top) / box.height) * view.height,
    };
  };
  const zoom = (factor, at) => {
    const before = view.width;
    view.width = within(view.width / factor, whole.width / MOST, whole.width);
    const share = view.width / before;
    view.x = at.x - (at.x - view.x) * share;
    view.y = at.y - (at.y - view.y) * share;
    show();
  };
  const middle = () => ({ x: view.x + view.width / 2, y: view.y + view.height / 2 });
  const centre = (point) => ({ x: Number(point.use.getAttribute("x")), y: Number(point.use.getAttribute("y")) });

  element.querySelector("[data-zoom=in]").addEventListener("click", () => zoom(1.6, middle()));
  element.querySelector("[data-zoom=out]").addEventListener("click", () => zoom(1 / 1.6, middle()));
  element.querySelector("[data-zoom=all]").addEventListener("click", () => { Object.assign(view, whole); show(); });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return; // the page scrolls
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 300), place(event));
  }, { passive: false });

  const pointers = new Map();
  let moved = 0;
  svg.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    if (pointers.size === 1) moved = 0;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const apart = () => {
      const [one, other] = [...pointers.values()];
      return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
    };
    const was = pointers.size === 2 ? apart() : 0;
    const [from, to] = [place(before), place(event)];
    moved += Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY);
    pointers.set(event.pointerId, event);
    if (pointers.size === 2) {
      zoom(apart() / was, to);
    } else if (view.width < whole.width) {
      view.x += from.x - to.x;
      view.y += from.y - to.y;
      show();
    }
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    svg.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  svg.addEventListener("click", (event) => {
    if (moved > 6) return;
    const at = place(event);
    const far = (point) => Math.hypot(centre(point).x - at.x, centre(point).y - at.y);
    const nearest = points.reduce((best, point) => (far(point) < far(best) ? point : best), points[0]);
    const pixels = (far(nearest) * svg.getBoundingClientRect().width) / view.width;
    said.textContent = pixels < 24 ? nearest.title : "";
  });

  const search = element.querySelector("input[type=search]");
  const find = () => {
    const words = fold(search.value).split(/\s+/).filter(Boolean);
    const found = words.length ? points.filter((point) => words.every((word) => fold(point.title).includes(word))) : [];
    for (const point of points) point.group.classList.toggle("hit", found.includes(point));
    svg.classList.toggle("dimmed", found.length > 0);
    drawPoints();
    const first = found.slice(0, 3).map((point) => point.title).join("; ");
    said.textContent = !words.length ? "" : found.length ? first + (found.length > 3 ? `; and ${found.length - 3} more` : "") : "Nothing on the map is called so.";
    return found;
  };
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const [first] = find();
    if (!first) return;
    view.width = whole.width / 3;
    show();
    Object.assign(view, { x: centre(first).x - view.width / 2, y: centre(first).y - view.height / 2 });
    show();
  });
  new ResizeObserver(drawPoints).observe(svg);
  show();
}
