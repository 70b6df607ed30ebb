# For tools that only know node-gyp (prebuildify's default, @electron/rebuild): CMake builds the addon, and its
# result is put where node-gyp's own would be. The published package does not hold this file, or npm would run it.
{
  "targets": [
    {
      "target_name": "tokenmill",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake",
          "inputs": ["CMakeLists.txt"],
          "outputs": ["build/cmake/Release/tokenmill.node"],
          "action": ["node", "node_modules/cmake-js/bin/cmake-js", "build", "--silent", "--out", "build/cmake"]
        }
      ],
      "copies": [{"destination": "<(PRODUCT_DIR)", "files": ["build/cmake/Release/tokenmill.node"]}]
    }
  ]
}
