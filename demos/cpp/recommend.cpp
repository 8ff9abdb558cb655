// A user's best items from a bundle, with OpenVINO: recommend BUNDLE USER_INDEX
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <openvino/openvino.hpp>
#include <string>

int main(int argc, char **argv) {
  std::int64_t user = -1, none = 0;  // 0 excludes nothing
  const std::string index = argc == 3 ? argv[2] : "";
  const auto read = std::from_chars(index.data(), index.data() + index.size(), user);
  if (user < 0 || read.ec != std::errc() || *read.ptr)
    return std::fputs("Usage: recommend BUNDLE USER_INDEX\n", stderr), 2;
  try {
    ov::Core core;
    // Without the hint, processors with bfloat16 may compute in it, and lists change.
    auto model = core.compile_model(std::string(argv[1]) + "/recommend.onnx", "CPU",
                                    ov::hint::inference_precision(ov::element::f32));
    auto request = model.create_infer_request();
    request.set_tensor("user_index", ov::Tensor(ov::element::i64, {1}, &user));
    request.set_tensor("exclude_item_indices", ov::Tensor(ov::element::i64, {1, 1}, &none));
    request.infer();
    const auto indices = request.get_tensor("top_item_indices"), scores = request.get_tensor("top_scores");
    for (std::size_t rank = 0; rank < 10 && rank < indices.get_size(); ++rank) {
      const auto index = indices.data<std::int64_t>()[rank];
      if (index == 0) break;  // no item is left
      std::printf("%lld\t%.6f\n", static_cast<long long>(index), scores.data<float>()[rank]);
    }
  } catch (const std::exception &error) {
    return std::fprintf(stderr, "Error: %s\n", error.what()), 1;
  }
}
